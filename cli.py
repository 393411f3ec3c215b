"""The command `probe` in a clone: `python cli.py`. Installed, it is `probe`."""

from probe.commands import main

if __name__ == "__main__":
    main()
