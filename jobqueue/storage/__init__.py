"""Where jobs live: the port (``base``), URLs (``url``), and one folder for each storage."""
