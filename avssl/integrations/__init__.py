"""Adapters of released models to evaluation boards of others: mteb, X-ARES, HEAR, AV-SUPERB and VGGSounder."""
