"""People in films: their poses frame by frame, runs that write them, films that show them."""
