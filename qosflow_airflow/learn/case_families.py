"""Shapes of published scientific workflows, to generate cases from. The amounts are made up.

Stages and their edges follow the descriptions of these workflows in Juve et al., "Characterizing and
profiling scientific workflows" (FGCS 29, 2013: Montage, Epigenomics), and in Coleman et al., "WfCommons: a
framework for enabling scientific workflow research and development" (FGCS 128, 2022: 1000 Genomes, BLAST,
Cycles, Seismology, SoyKB), simplified to stages. Seconds and volumes are of a plausible size, and nobody's
measurement.
"""

from __future__ import annotations

from typing import NamedTuple

from qosflow_airflow.core.workflow import INITIAL_DATA, Stage, Workflow


class FamilyStage(NamedTuple):
    """A stage of ``fixed + per_unit * size`` tasks.

    Each task computes for ``compute_s`` and writes ``output_mib``; those that read outside data read
    ``input_mib`` of it each.
    """

    name: str
    fixed: int
    per_unit: float
    reads: tuple[str, ...]
    compute_s: float
    output_mib: float
    input_mib: float = 0.0

    def tasks(self, size: int) -> int:
        """Return how many tasks the stage has at a size of the workflow."""
        return max(1, self.fixed + round(self.per_unit * size))


FAMILIES: dict[str, tuple[FamilyStage, ...]] = {
    "montage": (
        FamilyStage("mProject", 0, 1, (), 12.0, 8.0, 4.0),
        FamilyStage("mDiffFit", 0, 3, ("mProject",), 1.0, 0.5),
        FamilyStage("mConcatFit", 1, 0, ("mDiffFit",), 10.0, 1.0),
        FamilyStage("mBgModel", 1, 0, ("mConcatFit",), 30.0, 1.0),
        FamilyStage("mBackground", 0, 1, ("mProject", "mBgModel"), 1.5, 8.0),
        FamilyStage("mImgtbl", 1, 0, ("mBackground",), 4.0, 1.0),
        FamilyStage("mAdd", 1, 0, ("mBackground", "mImgtbl"), 40.0, 400.0),
        FamilyStage("mViewer", 1, 0, ("mAdd",), 15.0, 40.0),
    ),
    "epigenomics": (
        FamilyStage("fastqSplit", 0, 0.05, (), 35.0, 400.0, 400.0),
        FamilyStage("filterContams", 0, 1, ("fastqSplit",), 2.5, 15.0),
        FamilyStage("sol2sanger", 0, 1, ("filterContams",), 0.6, 12.0),
        FamilyStage("fast2bfq", 0, 1, ("sol2sanger",), 1.5, 3.0),
        FamilyStage("map", 0, 1, ("fast2bfq",), 200.0, 1.5),
        FamilyStage("mapMerge", 0, 0.05, ("map",), 11.0, 30.0),
        FamilyStage("maqIndex", 1, 0, ("mapMerge",), 43.0, 110.0),
        FamilyStage("pileup", 1, 0, ("maqIndex",), 56.0, 85.0),
    ),
    "seismology": (
        FamilyStage("sG1IterDecon", 0, 4, (), 6.0, 0.3, 0.4),
        FamilyStage("siftSTFByMisfit", 1, 0, ("sG1IterDecon",), 12.0, 2.0),
    ),
    "blast": (
        FamilyStage("split_fasta", 1, 0, (), 6.0, 800.0, 800.0),
        FamilyStage("blastall", 0, 2, ("split_fasta",), 110.0, 6.0, 80.0),
        FamilyStage("cat_blast", 1, 0, ("blastall",), 5.0, 300.0),
        FamilyStage("cat", 1, 0, ("blastall",), 3.0, 200.0),
    ),
    "1000genome": (
        FamilyStage("individuals", 0, 1, (), 45.0, 60.0, 300.0),
        FamilyStage("individuals_merge", 1, 0.1, ("individuals",), 60.0, 250.0),
        FamilyStage("sifting", 1, 0.1, (), 8.0, 6.0, 300.0),
        FamilyStage("mutation_overlap", 0, 0.7, ("individuals_merge", "sifting"), 30.0, 2.0),
        FamilyStage("frequency", 0, 0.7, ("individuals_merge", "sifting"), 90.0, 3.0),
    ),
    "soykb": (
        FamilyStage("alignment_to_reference", 0, 1, (), 90.0, 500.0, 700.0),
        FamilyStage("sort_sam", 0, 1, ("alignment_to_reference",), 12.0, 500.0),
        FamilyStage("dedup", 0, 1, ("sort_sam",), 15.0, 480.0),
        FamilyStage("add_replace", 0, 1, ("dedup",), 10.0, 480.0),
        FamilyStage("indel_realign", 0, 1, ("add_replace",), 60.0, 480.0),
        FamilyStage("haplotype_caller", 0, 4, ("indel_realign",), 150.0, 30.0),
        FamilyStage("merge_gcvf", 1, 0, ("haplotype_caller",), 200.0, 900.0),
        FamilyStage("genotype_gvcfs", 0, 1, ("merge_gcvf",), 60.0, 20.0),
        FamilyStage("combine_variants", 1, 0, ("genotype_gvcfs",), 15.0, 150.0),
        FamilyStage("filtering", 2, 0, ("combine_variants",), 8.0, 40.0),
    ),
    "cycles": (
        FamilyStage("baseline_cycles", 0, 1, (), 20.0, 6.0, 3.0),
        FamilyStage("cycles", 0, 2, ("baseline_cycles",), 45.0, 9.0),
        FamilyStage("fertilizer_increase_cycles", 0, 2, ("baseline_cycles",), 45.0, 9.0),
        FamilyStage("fertilizer_parser", 0, 2, ("fertilizer_increase_cycles",), 2.0, 0.5),
        FamilyStage("output_summary", 1, 0.1, ("cycles", "fertilizer_parser"), 5.0, 4.0),
        FamilyStage("plots", 1, 0, ("output_summary",), 25.0, 3.0),
    ),
}


def family_workflow(family: str, size: int) -> Workflow:
    """Return a family's workflow; ``size`` is the number of its units: images, samples, queries."""
    levels: dict[str, int] = {}
    stages = []
    for stage in FAMILIES[family]:
        levels[stage.name] = 1 + max((levels[name] for name in stage.reads), default=0)
        outside = {INITIAL_DATA: ()} if stage.input_mib else {}
        predecessors: dict[str, tuple[str, ...]] = {**outside, **dict.fromkeys(stage.reads, ())}
        stages.append(Stage(stage.name, levels[stage.name], stage.tasks(size), predecessors))
    return Workflow(family, tuple(stages))
