"""Golden values of COCO's noiseless BBOB functions: python bbob.py > bbob.csv (pip install coco-experiment==2.8.2)."""

import cocoex
import numpy as np

FUNCTIONS = [1, 3, 6, 7, 8, 10, 13, 15, 17, 20, 21, 23]
suite = cocoex.Suite("bbob", "instances: 1-11", "dimensions:5")
rng = np.random.default_rng(1)
print("function,instance,x0,x1,x2,x3,x4,value")
for function in FUNCTIONS:
    for instance in range(1, 12):
        problem = suite.get_problem_by_function_dimension_instance(function, 5, instance)
        for k in range(4):
            # Three points of the box and one outside of it.
            x = rng.uniform(-5, 5, 5) * (1.3 if k == 3 else 1.0)
            print(",".join([str(function), str(instance)] + [repr(float(v)) for v in [*x, problem(x)]]))
