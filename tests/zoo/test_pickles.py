"""Pickles of arrays from strangers: data are read, and nothing that they ask for is done."""

from __future__ import annotations

import io
import pickle
import struct
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from posepipe.errors import WeightsError
from posepipe.zoo.pickles import PickledArray, read_pickle
from posepipe.zoo.weights import read_state

RECONSTRUCT = b"cnumpy.core.multiarray\n_reconstruct\n(cnumpy\nndarray\n(I0\ntS'b'\ntR"


def read(tmp_path: Path, content: bytes) -> Any:
    path = tmp_path / "weights.pkl"
    path.write_bytes(content)
    return read_pickle(path)


def array_program(dtype: bytes, shape: bytes = b"(I2\nt", data: bytes = b"S'12345678'\n") -> bytes:
    """A dictionary with one array, as a text of pickle's opcodes."""
    array = RECONSTRUCT + b"(I1\n" + shape + dtype + b"I00\n" + data + b"tb"
    return b"(dS'a'\n" + array + b"s."


def dtype_program(code: bytes = b"'f4'", state: bytes = b"(I3\nS'<'\nNNNI-1\nI-1\nI0\ntb") -> bytes:
    return b"cnumpy\ndtype\n(S" + code + b"\nI0\nI1\ntR" + state


@pytest.mark.parametrize("protocol", range(6))
@pytest.mark.parametrize("dtype", ["?", "u1", "i2", "i8", "f2", "<f4", ">f4", ">i4", "f8"])
def test_arrays_of_every_plain_type_come_back(protocol: int, dtype: str, tmp_path: Path) -> None:
    shapes = ((), (0,), (3, 0), (2, 3), (2, 3, 4))
    arrays = [
        np.asarray(np.arange(np.prod(shape, dtype=int)).reshape(shape), dtype, order=order)
        for shape in shapes
        for order in ("C", "F")
    ]
    for found, array in zip(read(tmp_path, pickle.dumps(arrays, protocol)), arrays, strict=True):
        assert isinstance(found, PickledArray)
        assert np.array_equal(found.array, array)
        assert found.array.dtype == array.dtype.newbyteorder("=")
        found.array[...] = 0  # writable


def test_what_the_text_of_opcodes_says_is_what_numpy_makes(tmp_path: Path) -> None:
    program = array_program(dtype_program())
    expected = np.frombuffer(b"12345678", "<f4")
    assert np.array_equal(read(tmp_path, program)["a"].array, expected)
    if np.__version__ < "2":  # the names of the program are numpy 1's
        assert np.array_equal(pickle.loads(program)["a"], expected)  # noqa: S301


# --- forged ones

HUGE = b"I99999999999999999999\n"
LAUGHS = b"(K\x01K\x01t" + b"2\x86" * 60  # a pair of twice the same pair of twice the same …
FORGED = {
    "fields at made-up offsets": array_program(
        dtype_program(
            b"'V8'", b"(I3\nS'|'\nN(S'f'\nt(dS'f'\n(cnumpy\ndtype\n(S'O8'\nI0\nI1\ntRI0\nts"
        )
    ),
    "objects": array_program(dtype_program(b"'O8'")),
    "texts": array_program(dtype_program(b"'S4'")),
    "dates": array_program(dtype_program(b"'M8'")),
    "structures": array_program(dtype_program(b"'f4,O'")),
    "a shape that is too large": array_program(dtype_program(), b"(I3\nt"),
    "a shape that overflows": array_program(dtype_program(), b"(" + HUGE + HUGE + b"t"),
    "a negative shape": array_program(dtype_program(), b"(I-2\nt"),
    "a side to be guessed": array_program(dtype_program(), b"(I-1\nt"),
    "a side that is no whole number": array_program(dtype_program(), b"(F2.0\nt"),
    "bytes that are a number": array_program(dtype_program(), data=b"I8\n"),
    "a type that is a number": array_program(b"I8\n"),
    "no state to speak of": b"(dS'a'\n" + RECONSTRUCT + b"I1\nbs.",
    "attributes of a function": b"c_codecs\nencode\n(dS'__defaults__'\nNsb.",
    "attributes of a class": b"cnumpy\ndtype\n(N(dS'__init__'\nNstb.",
    "another class": b"cbuiltins\neval\n(S'1'\ntR.",
    "a part of a class": b"\x80\x04\x8c\x05numpy\x8c\x10ndarray.__class__\x93.",
    "an array's own method": b"\x80\x04\x8c\x05numpy\x8c\x0dndarray.tobytes\x93.",
    "an extension": b"\x80\x02\x82\x01.",
    "something kept elsewhere": b"Pid\n.",
    "more bytes than there are": b"\x80\x04\x8e" + struct.pack("<Q", 2**40) + b"x.",
    "a number of a million digits": b"I" + b"9" * 1_000_000 + b"\n.",
    "nothing": b"",
    "a name that takes for ever to look up": b"\x80\x02}" + LAUGHS + b"Ns.",
    "names that do": b"\x80\x02}(" + LAUGHS + b"Nu.",
    "names that do, of a text": b"(" + LAUGHS + b"Nd.",
    "names that do, of an OrderedDict": b"ccollections\nOrderedDict\n((" + LAUGHS + b"Nl\x85\x85R.",
    "a set of what does": b"\x80\x04\x8f(" + LAUGHS + b"\x90.",
    "a frozen one": b"\x80\x04(" + LAUGHS + b"\x91.",
    "a type that takes for ever to write": b"cnumpy\ndtype\n(" + LAUGHS + b"tR.",
    "an encoding that does": b"c_codecs\nencode\n(S'a'\n" + LAUGHS + b"tR.",
}


@pytest.mark.parametrize("content", FORGED.values(), ids=FORGED)
def test_what_is_forged_is_one_line(content: bytes, tmp_path: Path) -> None:
    path = tmp_path / "weights.pkl"
    path.write_bytes(content)
    with pytest.raises(WeightsError) as caught:
        read_state(path)
    (line,) = str(caught.value).splitlines()
    assert len(line) < 400
    assert line.startswith(str(path))


def test_what_is_told_to_set_attributes_keeps_its_own(tmp_path: Path) -> None:
    for content in (FORGED["attributes of a function"], FORGED["attributes of a class"]):
        with pytest.raises(pickle.UnpicklingError, match="sets attributes"):
            read(tmp_path, content)
    test_what_the_text_of_opcodes_says_is_what_numpy_makes(tmp_path)


def test_a_dictionary_that_hides_its_own_methods_is_read_as_a_dictionary(tmp_path: Path) -> None:
    program = (
        b"ccollections\nOrderedDict\n(tR(dS'items'\nI1\nsS'keys'\nI2\nsbS'a'\n"
        + (array_program(dtype_program())[len(b"(dS'a'\n") :])
    )
    path = tmp_path / "weights.pkl"
    path.write_bytes(program)
    assert list(read_state(path)) == ["a"]


def test_a_short_file_takes_no_gigabytes(tmp_path: Path) -> None:
    resource = pytest.importorskip("resource")
    before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    # "The 4,294,967,295th object": Python's reader in C makes room for so many.
    assert read(tmp_path, b"\x80\x02Nr\xff\xff\xff\xff0}.") == {}
    with pytest.raises(EOFError):
        read(tmp_path, b"\x80\x05\x96" + struct.pack("<Q", 3 << 30) + b"abc.")  # a bytearray
    grown = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before
    assert grown < (100e6 if sys.platform == "darwin" else 100e3)


def test_mutated_pickles_give_arrays_or_one_line(tmp_path: Path) -> None:
    arrays = {"a": np.arange(6, dtype="f4").reshape(2, 3), "b": [np.ones(2, ">i2"), ("x", 1.5)]}
    random = np.random.default_rng(0)
    path = tmp_path / "weights.pkl"
    refusals = []
    for number in range(600):
        buffer = io.BytesIO(pickle.dumps(arrays, number % 6))
        content = bytearray(buffer.getvalue())
        for _ in range(random.integers(1, 4)):
            content[random.integers(len(content))] = random.integers(256)
        path.write_bytes(content)
        try:
            read_state(path)
        except WeightsError as error:
            refusals.append(str(error))
    assert len(refusals) > 100
    assert all(len(line.splitlines()) == 1 for line in refusals)
