"""The compiled part of SWING. Importing a module here compiles it or loads its machine code: see `compiling`."""
