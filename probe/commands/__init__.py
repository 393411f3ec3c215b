"""The commands: each parses, calls the library, prints. Whatever is slow to load is loaded inside one."""
