"""The clock's door: expiring holds, re-probing credentials, refreshing prices."""
