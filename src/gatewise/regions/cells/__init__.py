"""Every region of a box: convex cells split by one gate after the other, all signs proven."""
