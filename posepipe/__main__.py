"""``python -m posepipe``: the same as the command ``posepipe``."""

from posepipe.cli.main import main

if __name__ == "__main__":
    main()
