"""What tests of Laminar and of programs built on it share; nothing in Laminar imports it."""
