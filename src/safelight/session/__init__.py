"""Sessions: a recipe is prepared, trained, watched and reported."""
