"""Looking around in what a generator can make: samples that can be named, and the ways between them."""
