"""Which structures are worth a label: descriptors of environments, and selections that cover their space.

`soap` describes; `reduction`, `clusters`, `direct` select; `coverage` judges. Descriptors of another kind (ACE
B-projections) come from outside as rows: nothing but `soap` knows where its rows come from.
"""
