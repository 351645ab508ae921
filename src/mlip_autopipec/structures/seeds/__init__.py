"""From a composition to structures worth a label: what is known of elements and compounds, prototypes, and seeds."""
