"""Tests of webhooks: events that no crash can lose, and deliveries to receivers of all kinds."""
