"""Runs the steps on the connection that `ownkey.store.schema` hands over, inside its one transaction."""

from alembic import context

connection = context.config.attributes["connection"]
context.configure(
    connection=connection, transactional_ddl=True, transaction_per_migration=False,
    on_version_apply=context.config.attributes["applied"],
)
with context.begin_transaction():
    context.run_migrations()
