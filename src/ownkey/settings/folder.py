"""What the files of a deployment are called. Apart from the code that builds the server: a command need not load it."""

from typing import Final

DATABASE_NAME: Final = "ownkey.db"
MASTER_KEY_NAME: Final = "master.key"
RUN_FILE_NAME: Final = "run.json"
AUDIT_KEY_NAME: Final = "audit.key"
EXPORTS_NAME: Final = "exports"
