from divaug.config.registry import PARTNERS


@PARTNERS.register("uniform")
def uniform() -> None:
    """Mix within the batch: partners are a permutation of the rows, drawn each step; on average one row meets itself.

    Differs from the paper: nothing; mixup and CutMix are defined this way.
    """
