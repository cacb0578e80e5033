"""Forecasts of statsforecast 2.1 and statsmodels on synthetic series, for the tests of theta and damped Holt(-Winters).

    pip install statsforecast statsmodels
    python make_golden.py > members.json

theta: DynamicOptimizedTheta with its parameters.
holt: statsmodels' ETSModel (additive error, damped trend, additive season) with the given parameters and first states, so
that the recursion is compared, not two optimisers.
"""

import json

import numpy as np
from statsforecast.theta import auto_theta, forecast_theta
from statsmodels.tsa.exponential_smoothing.ets import ETSModel


def noise(n, seed):
    return np.random.default_rng(seed).normal(size=n)


def series():
    t = np.arange(240)
    day = np.sin(2 * np.pi * t / 12) + 0.4 * np.cos(4 * np.pi * t / 12)
    walk = np.cumsum(noise(240, 1))
    yield "multiplicative", 12, (50 + 0.1 * t + 0.3 * np.cumsum(noise(240, 2))) * (1 + 0.3 * day / 1.4) + noise(240, 3)
    yield "additive", 12, 2 + 3 * day + 0.4 * walk + 0.5 * noise(240, 4)
    yield "walk", 1, walk
    yield "trend", 1, 5 + 0.2 * t + 2 * noise(240, 5)
    yield "level", 12, 10 + noise(240, 6) + 0.2 * walk


def theta(y, m):
    model = auto_theta(y=y.copy(), m=m, model="DOTM")
    par = model["par"]
    residuals = np.asarray(model["residuals"])
    return {
        "alpha": float(par["alpha"]),
        "theta": float(par["theta"]),
        "level": float(par["initial_smoothed"]),
        "forecast": [float(v) for v in forecast_theta(model, 24)["mean"]],
        "seasonal": bool(model.get("decompose", False)),
    }


def holt(y, m, alpha=0.3, beta=0.2, gamma=0.25, phi=0.9):
    seasonal = [0.5 * np.sin(2 * np.pi * k / m) for k in range(m)] if m > 1 else None
    if seasonal:
        seasonal = [float(s - np.mean(seasonal)) for s in seasonal]
    model = ETSModel(
        y, error="add", trend="add", damped_trend=True, seasonal="add" if m > 1 else None,
        seasonal_periods=m if m > 1 else None, initialization_method="known", initial_level=float(y[0]),
        initial_trend=0.1, initial_seasonal=seasonal,
    )
    # statsmodels' own smoothing of the trend is alpha beta, of the season (1 - alpha) gamma.
    names = model.param_names
    start = np.zeros(len(names))
    known = {
        "smoothing_level": alpha, "smoothing_trend": alpha * beta, "smoothing_seasonal": (1 - alpha) * gamma,
        "damping_trend": phi, "initial_level": float(y[0]), "initial_trend": 0.1,
    }
    for i, name in enumerate(names):
        if name.startswith("initial_seasonal."):
            start[i] = seasonal[int(name.split(".")[1])]
        else:
            start[i] = known[name]
    result = model.smooth(start)
    return {
        "alpha": alpha, "beta": beta, "gamma": gamma if m > 1 else 0.0, "phi": phi, "level": float(y[0]), "trend": 0.1,
        "season": seasonal or [0.0],
        "forecast": [float(v) for v in result.forecast(24)],
        "squares": float(np.sum(np.asarray(result.resid) ** 2)),
    }


def main():
    cases = []
    for name, m, y in series():
        y = np.round(y, 6)
        cases.append({"name": name, "season": m, "values": y.tolist(), "theta": theta(y, m), "holt": holt(y, m)})
    print(json.dumps(cases, indent=0))


main()
