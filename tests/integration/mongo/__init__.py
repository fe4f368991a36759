"""Tests of statements, guards and marks against a real mongod; the embedded one."""
