"""Readers: one annotation format a file, each giving a `PersonSet`."""
