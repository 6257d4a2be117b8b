"""Data sets that are drawn by a program: item i is a pure function of i and of the size asked for."""
