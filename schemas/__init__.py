"""The record contract as data, and the code that compiles it."""
