"""Weights by name: which file counts, what it is checked against, and where it is fetched from."""

from __future__ import annotations

import hashlib
import shutil
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from fileserver import FileServer, file_server

from posepipe.errors import DownloadError, RecipeError, WeightsError
from posepipe.zoo.cache import Availability, CachedWeights, pins_file, state_of, weights_by_name
from posepipe.zoo.connections import Patience
from posepipe.zoo.recipe import Recipe, list_recipes, load_recipe
from posepipe.zoo.weights import find_weights

CONTENT = b"numbers" * 1000
SHA256 = hashlib.sha256(CONTENT).hexdigest()
OTHER = b"other numbers"
HURRIED = Patience(timeout_s=0.3, attempts=1, pause_s=0)


@pytest.fixture
def server() -> Iterator[FileServer]:
    with file_server() as files:
        files.files["/v1/w-1.pth"] = CONTENT
        yield files


@pytest.fixture(autouse=True)
def cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv("POSEPIPE_CACHE", str(tmp_path / "cache"))
    monkeypatch.setenv("POSEPIPE_PINS", str(tmp_path / "settings" / "pins.txt"))
    monkeypatch.delenv("POSEPIPE_OFFLINE")
    return tmp_path / "cache"


@pytest.fixture
def model(server: FileServer, tmp_path: Path) -> Callable[..., Recipe]:
    """Makes a model folder whose weights the server has, with more lines of [weights]."""

    def make(weights: str = "", model: str = "") -> Recipe:
        folder = tmp_path / "small"
        folder.mkdir(exist_ok=True)
        (folder / "recipe.toml").write_text(
            f'[model]\nstage = "pose"\nsummary = "a test"\n{model}\n'
            f'[weights]\nurls = ["{server.url}/v1/w-1.pth"]\n{weights}\n'
        )
        return load_recipe(folder)

    return make


def cached_file(recipe: Recipe, content: bytes = CONTENT) -> Path:
    """A file brought into the cache by hand."""
    file = CachedWeights(recipe).path
    file.parent.mkdir(parents=True, exist_ok=True)
    file.write_bytes(content)
    return file


# --- which file counts


def test_first_use_fetches_into_the_cache_and_later_ones_do_not(
    model, server: FileServer, cache: Path
) -> None:
    recipe = model()
    assert state_of(recipe) == "can be fetched"
    for _ in range(2):
        path, digest = find_weights(recipe)
        assert (path.parents[1], path.name, digest) == (cache / "small", "w-1.pth", SHA256)
    assert len(server.requests) == 1
    assert state_of(recipe) == "cached"


def test_a_file_beside_the_recipe_wins_over_the_cache(model, server: FileServer) -> None:
    recipe = model()
    cached_file(recipe)
    (recipe.folder / "weights.pth").write_bytes(OTHER)
    digest = hashlib.sha256(OTHER).hexdigest()
    assert find_weights(recipe) == (recipe.folder / "weights.pth", digest)
    assert state_of(recipe) == "ready"
    assert server.requests == []


@pytest.mark.parametrize("name", ["any.pth", "w-1.pth", "weights.safetensors"])
def test_a_named_file_or_folder_wins_over_everything(
    name: str, model, server: FileServer, tmp_path: Path
) -> None:
    recipe = model()
    (recipe.folder / "weights.pth").write_bytes(CONTENT)
    folder = tmp_path / "mine"
    folder.mkdir()
    (folder / name).write_bytes(OTHER)
    digest = hashlib.sha256(OTHER).hexdigest()
    assert find_weights(recipe, folder / name) == (folder / name, digest)
    if name == "any.pth":
        with pytest.raises(WeightsError, match=r"has no weights file: weights\.safetensors, "):
            find_weights(recipe, folder)
    else:
        assert find_weights(recipe, folder) == (folder / name, digest)
    assert server.requests == []


def test_a_file_brought_by_hand_is_taken_and_remembered(model, server: FileServer) -> None:
    file = cached_file(model())
    assert weights_by_name(model(), offline=True) == (file, SHA256)
    assert CachedWeights(model()).fetched() == SHA256
    assert server.requests == []
    assert file.with_name("w-1.pth.sha256").read_text() == f"{SHA256}  w-1.pth\n"


def test_a_file_brought_by_hand_is_checked_like_any_other(model) -> None:
    md5 = hashlib.md5(CONTENT, usedforsecurity=False).hexdigest()
    recipe = model(f'md5_prefix = "{md5[:6]}"')
    cached_file(recipe, OTHER)
    with pytest.raises(WeightsError, match=rf"its MD5 is .*, not {md5[:6]}…; remove it"):
        find_weights(recipe)
    cached_file(recipe)
    assert find_weights(recipe)[1] == SHA256


def test_the_cache_is_where_the_system_keeps_such_things(
    model, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    cached = CachedWeights(model())
    monkeypatch.setenv("POSEPIPE_CACHE", "")
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "xdg"))
    assert cached.path == tmp_path / "xdg" / "posepipe" / cached.key
    monkeypatch.setenv("XDG_CACHE_HOME", "")
    assert cached.path == Path.home() / ".cache" / "posepipe" / cached.key
    monkeypatch.setenv("POSEPIPE_CACHE", "~/models")
    assert cached.path == Path.home() / "models" / cached.key


@pytest.mark.parametrize(
    ("weights", "state"), [("", "no weights"), ("[weights]\nurls = []", "no weights")]
)
def test_a_model_that_cannot_be_fetched_is_said_so(
    weights: str, state: Availability, tmp_path: Path
) -> None:
    (tmp_path / "recipe.toml").write_text(f'[model]\nstage = "pose"\nsummary = ""\n{weights}')
    recipe = load_recipe(tmp_path)
    assert state_of(recipe) == state
    with pytest.raises(WeightsError, match="comes without weights"):
        find_weights(recipe)


# --- from where


@pytest.mark.parametrize("value", ["1", "true", "yes"])
def test_offline_nothing_is_fetched_and_the_way_by_hand_is_told(
    value: str, model, server: FileServer, cache: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("POSEPIPE_OFFLINE", value)
    with pytest.raises(DownloadError) as caught:
        find_weights(model())
    message = str(caught.value)
    place = cache / CachedWeights(model()).key
    assert f"bring {server.url}/v1/w-1.pth by hand and put it at {place}" in message
    assert server.requests == []
    monkeypatch.setenv("POSEPIPE_OFFLINE", "0")
    assert find_weights(model())[1] == SHA256


def test_a_mirror_is_tried_first_and_has_the_layout_of_a_cache(
    model, server: FileServer, monkeypatch: pytest.MonkeyPatch
) -> None:
    place = f"/mirror/{CachedWeights(model()).key}"
    server.files[place] = CONTENT
    monkeypatch.setenv("POSEPIPE_MIRROR", f"{server.url}/mirror/")
    find_weights(model())
    assert [path for path, _ in server.requests] == [place]


def test_another_cache_serves_as_a_mirror(
    model, server: FileServer, cache: Path, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    find_weights(model())
    shutil.move(cache, tmp_path / "other cache")
    monkeypatch.setenv("POSEPIPE_MIRROR", str(tmp_path / "other cache"))
    assert find_weights(model())[1] == SHA256
    assert len(server.requests) == 1


def test_a_mirror_without_the_file_is_passed_over(
    model, server: FileServer, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("POSEPIPE_MIRROR", f"{server.url}/mirror")
    assert find_weights(model())[1] == SHA256
    assert len(server.requests) == 2


# --- checked


@pytest.mark.parametrize(
    "line", ['sha256_prefix = "00000000"', f'md5_prefix = "{"0" * 6}"'], ids=["sha256", "md5"]
)
def test_a_file_with_another_checksum_than_the_recipes_is_not_taken(line: str, model) -> None:
    with pytest.raises(DownloadError, match="not 000000"):
        CachedWeights(model(line)).fetched(patience=HURRIED)
    assert not CachedWeights(model(line)).path.exists()


def test_a_cached_file_is_checked_whenever_it_is_used(model) -> None:
    find_weights(model())
    file = cached_file(model(), OTHER)
    with pytest.raises(WeightsError, match=r"has SHA-256 .*, .*w-1\.pth\.sha256 says .*remove it"):
        find_weights(model())
    file.unlink()
    assert find_weights(model()) == (file, SHA256)


def test_what_was_fetched_once_must_not_change(model, server: FileServer) -> None:
    find_weights(model())
    cached = CachedWeights(model())
    cached.path.unlink()
    server.files["/v1/w-1.pth"] = OTHER
    with pytest.raises(DownloadError, match=r"not .*w-1\.pth\.sha256 says so"):
        CachedWeights(model()).fetched(patience=HURRIED)
    cached.record.unlink()
    assert find_weights(model())[1] == hashlib.sha256(OTHER).hexdigest()


def test_a_pin_outlives_the_cache(model, server: FileServer, cache: Path) -> None:
    cached = CachedWeights(model())
    assert cached.pin(cached.fetched()) == pins_file()
    assert pins_file().read_text() == f"{SHA256}  {cached.key}\n"
    shutil.rmtree(cache)
    server.files["/v1/w-1.pth"] = OTHER
    with pytest.raises(DownloadError, match=r"not .*pins\.txt says so"):
        cached.fetched(patience=HURRIED)
    cached_file(model(), OTHER)
    with pytest.raises(WeightsError, match=r"pins\.txt says"):
        find_weights(model())


def test_a_pin_leaves_others_alone(model) -> None:
    pins_file().parent.mkdir()
    cached = CachedWeights(model())
    pins_file().write_text(f"# ours\n{'a' * 64}  other/w.pth\n{'b' * 64} *{cached.key}\n")
    cached.pin(SHA256)
    assert pins_file().read_text() == f"{'a' * 64}  other/w.pth\n{SHA256}  {cached.key}\n"


@pytest.mark.parametrize("content", [b"abc  small/w-1.pth\n", b"\xff\xfe"])
def test_pins_that_cannot_be_read_stop_everything(content: bytes, model) -> None:
    pins_file().parent.mkdir()
    pins_file().write_bytes(content)
    with pytest.raises(
        WeightsError, match=r"pins\.txt(, line 1 is not a checksum| cannot be read)"
    ):
        find_weights(model())


def test_a_recipe_of_the_same_name_has_a_place_of_its_own(
    model, server: FileServer, tmp_path: Path
) -> None:
    path, _ = find_weights(model())
    others = [
        model('sha256_prefix = "00"'),
        model('md5_prefix = "00"'),
        model(model=f'weights_sha256 = "{"0" * 64}"'),
    ]
    (tmp_path / "small" / "recipe.toml").write_text(
        '[model]\nstage = "pose"\nsummary = "another server"\n'
        f'[weights]\nurls = ["{server.url}/v1/w-1.pth", "https://forged.example/w-1.pth"]\n'
    )
    others.append(load_recipe(tmp_path / "small"))
    assert all(state_of(recipe) == "can be fetched" for recipe in others)
    assert len({CachedWeights(recipe).path for recipe in [model(), *others]}) == 5
    assert state_of(model()) == "cached"
    assert find_weights(model())[0] == path


def test_a_pickle_over_http_needs_more_than_a_few_digits(model) -> None:
    file = model().folder / "recipe.toml"
    file.write_text(file.read_text().replace("127.0.0.1", "models.invalid"))
    recipe = load_recipe(file)
    with pytest.raises(DownloadError, match=r"models\.invalid.* is not https, and no full SHA-256"):
        find_weights(recipe)
    CachedWeights(recipe).pin(SHA256)
    with pytest.raises(DownloadError, match="no connection"):  # it is asked for now
        CachedWeights(recipe).fetched(patience=HURRIED)


# --- recipes


def test_the_docs_list_every_model_that_can_be_fetched() -> None:
    text = (Path(__file__).parents[2] / "docs" / "model-zoo.md").read_text(encoding="utf-8")
    listed = {line.split("|")[1].strip(" `"): line for line in text.splitlines() if "| `" in line}
    fetchable = {recipe.name: recipe for recipe in list_recipes() if recipe.weights.urls}
    assert set(listed) == set(fetchable)
    for name, recipe in fetchable.items():
        size = f"{recipe.weights.megabytes:.0f}" if recipe.weights.megabytes else "–"
        reported = recipe.reported
        persons = reported.person_ap and f"{reported.person_ap} (persons)"
        ap = reported.box_ap or persons or reported.keypoint_ap or "–"
        assert f"| {ap} | {size} |" in listed[name]


@pytest.mark.parametrize(
    ("line", "says"),
    [
        ('sha256_prefix = "XYZ"', "sha256_prefix"),
        ('urls = ["https://example.org/model"]', "names no weights file"),
        ('sha512 = ""', "there is no field 'sha512'"),
    ],
)
def test_a_wrong_table_of_weights_is_named(line: str, says: str, tmp_path: Path) -> None:
    (tmp_path / "recipe.toml").write_text(
        f'[model]\nstage = "pose"\nsummary = ""\n[weights]\n{line}\n'
    )
    with pytest.raises(RecipeError, match=rf"recipe\.toml, \[weights\]: .*{says}"):
        _ = load_recipe(tmp_path).weights
