from hypothesis import settings

# fsync takes its time, and that is no fault of the code
settings.register_profile("patient", deadline=None)
settings.load_profile("patient")
