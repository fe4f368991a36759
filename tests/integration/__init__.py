"""Tests against real servers, by the room of the code that they test."""
