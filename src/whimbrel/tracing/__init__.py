"""Sends spans by OpenTelemetry, where its extra is installed and a collector is named. Imports nothing here: most processes send none.

Not here: which spans there are (`engine/running/batch_spans`).
"""
