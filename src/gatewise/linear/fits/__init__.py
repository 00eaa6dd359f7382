"""The best linear model beside a network, in closed form or by Newton's method, from batches."""
