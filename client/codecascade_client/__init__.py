"""Client, command line and measuring tools of codecascade, over gRPC."""
