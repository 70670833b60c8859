"""Serves Keystone on loopback: python3 serve_keystone.py CONFIGURATION DATABASE URL PASSWORD USERS

The first start makes the database's tables, the user `admin` with this password, a region whose identity service has
this URL, and the users: a JSON list of [name, password, project, role]. A start after that finds them.
"""

import json
import os
import sqlite3
import sys
import uuid
from urllib.parse import urlsplit

import eventlet

eventlet.monkey_patch()

import keystone.server
from eventlet import wsgi
from keystone.cmd.bootstrap import Bootstrapper
from keystone.common import provider_api
from keystone.common.sql import upgrades
from keystone.server.flask import application, core

configuration, database, url, password, users = sys.argv[1:]
# Keystone reads its own settings from there.
sys.argv[1:] = []

is_new = not os.path.exists(database)
if is_new:
    # Readers and a writer at one time: the default would make one of them fail.
    sqlite3.connect(database).execute("PRAGMA journal_mode = wal")
keystone.server.configure(config_files=[configuration])
upgrades.offline_sync_database_to_version()

# It makes what is not there yet.
first = Bootstrapper()
first.admin_username = first.project_name = first.admin_role_name = "admin"
first.admin_password = password
first.service_name = "keystone"
first.region_id = "RegionOne"
first.public_url = first.internal_url = url
first.bootstrap()

# Without tokens: however short they live, the users are there.
providers = provider_api.ProviderAPIs
roles = {role["name"]: role["id"] for role in providers.role_api.list_roles()}
for name, password, project, role in json.loads(users) if is_new else []:
    project_id = uuid.uuid4().hex
    described = {"id": project_id, "name": project, "domain_id": "default", "enabled": True}
    providers.resource_api.create_project(project_id, described)
    described = {"name": name, "password": password, "domain_id": "default", "enabled": True}
    user = providers.identity_api.create_user(described)
    providers.assignment_api.add_role_to_user_and_project(user["id"], project_id, roles[role])

served = core.setup_app_middleware(application.application_factory("public"))
wsgi.server(eventlet.listen(("127.0.0.1", urlsplit(url).port), backlog=128), served)
