"""The paper's experiments at a scale that two cores hold: one store of cells for all.

An experiment is a list of designs; a cell is one design trained with one seed. Finished cells are
committed under ``cells/``, named by the digest of everything they are a function of, and are not
trained again; designs that two experiments share are trained once.

    python -m reports.experiments run e2 e3 --seeds 3
    python -m reports.experiments report e2
"""
