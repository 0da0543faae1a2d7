from hypothesis import settings

# a machine that is busy with containers is slow at times, and that is no fault of the code
settings.register_profile("patient", deadline=None)
settings.load_profile("patient")
