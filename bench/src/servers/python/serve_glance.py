"""Serves Glance on loopback: python3 serve_glance.py CONFIGURATION DATABASE

The first start makes the database's tables; a start after that finds them.
"""

import os
import sqlite3
import sys

# Before everything else: it replaces the blocking calls of the standard library.
from glance.cmd import api
from glance.cmd.manage import DbCommands
from glance.common import config

configuration, database = sys.argv[1:]
sys.argv[1:] = ["--config-file", configuration]

if not os.path.exists(database):
    # Readers and a writer at one time: the default would make one of them fail.
    sqlite3.connect(database).execute("PRAGMA journal_mode = wal")
    config.parse_args()
    DbCommands().sync()
api.main()
