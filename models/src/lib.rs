//! Every model of foreglow and everything that judges a model.
