from divaug.registry import PARTNERS


@PARTNERS.register("uniform")
def uniform() -> None:
    """Mix within the batch: every row's partner is another row, by a permutation drawn each step.

    Differs from the paper: nothing; mixup and CutMix are defined so.
    """
