"""The lake: its layout, the ledger, commit, verify and query. Knows Arrow and storage; never Beam."""
