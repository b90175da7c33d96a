"""How the sample models were trained: the same figures again in minutes on two cores."""
