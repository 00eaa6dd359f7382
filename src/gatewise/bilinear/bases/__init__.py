"""Other coordinates of a tensor: HOSVD, CP, dictionaries; and how alike two tensors are."""
