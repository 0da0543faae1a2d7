import enum


class Label(enum.StrEnum):
    """Labels by which our containers are found again.

    None of them holds anything secret: everyone who may ask the engine can read them.
    """

    COMMAND = "evalset.command"
    ATTEMPT = "evalset.attempt"
    HOST = "evalset.host"
    PROGRESS = "evalset.progress"
    MODEL = "evalset.model"
    EVAL_SET = "evalset.eval_set"
    # A moment by a clock that nobody sets: see ending.py.
    CREATED = "evalset.created"
