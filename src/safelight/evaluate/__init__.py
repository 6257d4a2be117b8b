"""Numbers that can be trusted: distances between sets of images, each beside its real-against-real floor."""
