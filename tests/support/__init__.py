"""What several tests need: virtual time, doubles, servers, people at their command line. Each helper is here once."""
