"""Where stages run: streams of items through any stage; knows no particular stage."""
