"""The command `probe`, as `python -m probe`."""

from probe.commands import main

if __name__ == "__main__":
    main(prog_name="probe")
