"""The doors of machines: the callers' data plane and the management API. They translate, they do not decide."""
