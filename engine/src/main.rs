//! Arguments only; the program is in the library.

fn main() {}
