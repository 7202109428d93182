"""How policies and the deployment file have VMs moved."""

from transhume.daemon.composition import options_by
from transhume.deployment.model import NO_COMMON_FILES, CommonFiles
from transhume.execute.hypervisor.options import Disks, MigrationOptions
from transhume.policies.model import MigrationTerms


def test_what_policies_say_is_asked_of_hypervisors() -> None:
    terms = MigrationTerms(pause_seconds=0.2, at_most_seconds=60.0, post_copy_after_seconds=30.0)
    assert options_by(terms, NO_COMMON_FILES) == MigrationOptions(
        downtime_limit_ms=200, time_limit_seconds=60.0, post_copy_after_seconds=30.0
    )
    assert options_by(MigrationTerms(), NO_COMMON_FILES) == MigrationOptions()


def test_what_hosts_have_in_common_goes_with_copied_disks() -> None:
    common = CommonFiles(shared_folders=("/nfs",), base_images=("/images/base.qcow2",))
    found = options_by(MigrationTerms(copy_disks=True), common)
    assert (found.disks, found.common_files) == (Disks.COPY, common)
