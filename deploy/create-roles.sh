#!/bin/sh
# Runs once, when PostgreSQL's container makes its data directory. Neither role is a superuser: `app` owns the
# database, and `embedd_worker` gets its rights from `embedd grant`.
psql --no-psqlrc --set ON_ERROR_STOP=1 --username "${POSTGRES_USER:-postgres}" --dbname postgres <<'SQL'
\getenv owner_password POSTGRES_PASSWORD
\getenv worker_password EMBEDD_WORKER_PASSWORD
CREATE ROLE app LOGIN PASSWORD :'owner_password';
CREATE ROLE embedd_worker LOGIN PASSWORD :'worker_password';
CREATE DATABASE app OWNER app;
REVOKE CONNECT ON DATABASE app FROM PUBLIC;
GRANT CONNECT ON DATABASE app TO embedd_worker;
\connect app
CREATE EXTENSION vector;
-- From now on, only a session within the container is a superuser: docker compose exec postgres psql
ALTER ROLE CURRENT_USER PASSWORD NULL;
SQL
