"""People in videos: their poses frame by frame, runs that write them, videos that show them."""
