//! Parameter search: spaces, studies, designers, recommendations.
