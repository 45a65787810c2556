"""What the tests share: real servers, backends, a clock, makers of values, and waiting."""
