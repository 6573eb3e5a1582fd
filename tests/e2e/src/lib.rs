//! End to end tests: built binaries, real sockets, real clients that others wrote.
