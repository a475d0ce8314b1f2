"""The configuration file: presets, overlays, and sentences for what is wrong."""

from collections.abc import Callable
from pathlib import Path

import pytest

from ownkey.domain.pricing import CONFIGURED, ModelPrice, Rate
from ownkey.domain.product import Payers, RoutingLimits
from ownkey.settings.product import ORIGINS, PRESETS, HttpLimits, Settings, load_settings
from ownkey.settings.starter import write_config_text
from ownkey.settings.tables import SettingsError

Load = Callable[..., Settings]


@pytest.fixture
def load(tmp_path: Path) -> Load:
    def load(text: str, environ: dict[str, str] | None = None) -> Settings:
        path = tmp_path / "ownkey.toml"
        path.write_text(text, "utf-8")
        return load_settings(path, environ or {})

    return load


DESK, BUILDER = 'preset = "support-desk"\n', 'preset = "app-builder"\n'


class TestPresets:
    def test_support_desk_is_a_desk_without_a_key_of_its_own(self, load: Load) -> None:
        """T2, T12, T24: only the customer's key pays; three direct providers; the documented switches."""
        product = load(DESK).product

        assert product.payers is Payers.BYOK_ONLY
        assert product.direct_providers == ("anthropic", "openai", "google")
        assert {name: task.default_on for name, task in product.tasks.items()} == {
            "auto_triage": True, "draft_reply": True, "auto_reply": False, "similar_tickets": True,
            "translation": False, "knowledge": True,
        }  # fmt: skip
        assert product.tasks["auto_reply"].settings == {"threshold": 85}
        assert product.plans["standard"].byok == "included"
        assert product.default_threshold == 80
        assert not product.credits_if_key_fails_default

    def test_app_builder_sells_credits_and_an_add_on(self, load: Load) -> None:
        """G5, G8, G30: Enterprise includes BYOK, others buy it and need 10 credits; free starts with 50."""
        product = load(BUILDER).product

        assert product.payers is Payers.WITH_CREDITS
        assert product.direct_providers == ()
        assert {name: plan.byok for name, plan in product.plans.items()} == {
            "free": "addon", "starter": "addon", "pro": "addon", "enterprise": "included",
        }  # fmt: skip
        assert (product.plans["free"].grant_credits, product.plans["free"].minimum_balance_credits) == (50, 10)
        assert product.credits.price_nusd == 10_000_000
        assert product.credits_if_key_fails_default
        assert product.credits_if_key_fails_limit == 500

    @pytest.mark.parametrize("preset", PRESETS)
    def test_embeddings_name_one_model(self, load: Load, preset: str) -> None:
        tasks = load(f'preset = "{preset}"\n').product.tasks.values()

        assert all(len(task.models) == 1 for task in tasks if task.endpoint == "embeddings")

    @pytest.mark.parametrize("preset", PRESETS)
    def test_defaults_are_the_documented_ones(self, load: Load, preset: str) -> None:
        settings = load(f'preset = "{preset}"\n')

        assert settings.origins == ORIGINS
        deadline_s = {"support-desk": 120.0, "app-builder": 600.0}[preset]
        assert settings.product.routing == RoutingLimits(deadline_s=deadline_s)
        assert settings.limits == HttpLimits()
        assert settings.price_sync.on
        assert settings.price_overrides == ()
        assert not settings.allow_insecure_origins


class TestStarter:
    @pytest.mark.parametrize("preset", PRESETS)
    def test_the_first_file_loads_and_changes_nothing_but_the_page(self, load: Load, preset: str) -> None:
        written, bare = load(write_config_text(preset)), load(f'preset = "{preset}"\n')

        assert written.product.tasks == bare.product.tasks
        assert written.product.plans == bare.product.plans
        assert written.server == bare.server
        assert written.product.fix_url("cap").endswith("?open=cap")

    @pytest.mark.parametrize("preset", PRESETS)
    def test_its_comments_are_settings_that_exist(self, load: Load, preset: str) -> None:
        """Removing the # of every line that is a setting leaves a file that loads."""
        text = write_config_text(preset)
        lines = [line[2:] if _is_setting(line) else line for line in text.splitlines()]

        assert load("\n".join(lines)).product.name

    def test_there_are_two_presets(self) -> None:
        with pytest.raises(SettingsError, match="support-desk and app-builder"):
            write_config_text("other")


def _is_setting(line: str) -> bool:
    return line.startswith("# ") and ("] " in f"{line[2:]} " if line.startswith("# [") else " = " in line)


class TestOverlay:
    def test_a_task_is_changed_key_by_key_and_lists_are_replaced(self, load: Load) -> None:
        product = load(DESK + '[tasks.draft_reply]\nmodels = ["openai/gpt-5"]\n').product

        assert product.tasks["draft_reply"].models == ("openai/gpt-5",)
        assert product.tasks["draft_reply"].title == "Draft replies"
        assert "auto_triage" in product.tasks

    def test_the_presets_tasks_and_plans_can_be_dropped(self, load: Load) -> None:
        text = BUILDER + (
            '[product]\nkeep_preset_tasks = false\nkeep_preset_plans = false\ndefault_plan = "one"\n'
            '[plans.one]\nbyok = "included"\n[tasks.mine]\nmodels = ["openai/gpt-5"]\n'
        )
        product = load(text).product

        assert (list(product.tasks), list(product.plans)) == (["mine"], ["one"])

    def test_the_environment_wins_over_the_file(self, load: Load, tmp_path: Path) -> None:
        environ = {"OWNKEY_PORT": "9", "OWNKEY_HOST": "::1", "OWNKEY_DATA_DIR": str(tmp_path / "elsewhere")}
        server = load(DESK + '[server]\nport = 8\nhost = "127.0.0.2"\n', environ).server

        assert (server.port, server.host, server.data_dir) == (9, "::1", tmp_path / "elsewhere")

    def test_a_relative_data_dir_is_beside_the_file(self, load: Load, tmp_path: Path) -> None:
        assert load(DESK + '[server]\ndata_dir = "var/data"\n').server.data_dir == tmp_path / "var/data"

    def test_the_file_is_found_by_the_environment(self, tmp_path: Path) -> None:
        path = tmp_path / "other.toml"
        path.write_text(DESK, "utf-8")

        assert load_settings(None, {"OWNKEY_CONFIG": str(path)}).config_path == path

    def test_values_are_read_exactly(self, load: Load) -> None:
        settings = load(BUILDER + (
            '[credits]\nprice_usd = "0.0123456789"\n'
            "[routing]\nstall_s = 0.5\ndeadline_s = 30\n"
            '[attribution]\nurl = "https://x.example"\ncategories = ["cli", "chat"]\n'
            '[model_ids.openai]\n"openai/gpt-5" = ""\n'
            '[[prices.override]]\nprovider = "openrouter"\nmodel = "a/b"\ninput_usd = "0.25"\noutput_usd = "1"\n'
        ))  # fmt: skip

        assert settings.product.credits.price_nusd == 12_345_679
        assert (settings.product.routing.stall_s, settings.product.routing.deadline_s) == (0.5, 30.0)
        assert settings.product.attribution == {
            "HTTP-Referer": "https://x.example", "X-OpenRouter-Categories": "cli,chat",
        }  # fmt: skip
        assert settings.product.model_ids == {"openai": {"openai/gpt-5": ""}}
        assert settings.price_overrides == (
            ModelPrice("openrouter", "a/b", {"input": (Rate(0, 250_000_000),), "output": (Rate(0, 10**9),)},
                       source=CONFIGURED),
        )  # fmt: skip

    def test_loopback_origins_need_a_word(self, load: Load) -> None:
        text = DESK + '[origins]\nallow_insecure = true\nopenai = "http://127.0.0.1:4010/openai/v1/"\n'

        assert load(text).origins["openai"] == "http://127.0.0.1:4010/openai/v1"
        assert load(text).allow_insecure_origins


@pytest.mark.parametrize(
    ("text", "sentences"),
    [
        ("", ["preset is missing"]),
        ("preset = 'support-desk", ["not valid TOML"]),
        ('preset = "support-desc"', ["Did you mean 'support-desk'?"]),
        (DESK + "[sever]\n", ["'sever' is unknown", "Did you mean 'server'?"]),
        (DESK + "[server]\nprot = 1\n", ["'server.prot' is unknown", "Did you mean 'port'?"]),
        (DESK + '[server]\nport = "8080"\n', ["server.port must be a whole number from 0 to 65535", "'8080'"]),
        (DESK + "[server]\nport = true\n", ["server.port must be a whole number", "True"]),
        (DESK + "server = 3\n", ["server must be a table", "got 3"]),
        (DESK + '[server]\nallowed_hosts = "x"\n', ["a list of texts"]),
        (DESK + "[spend]\nshrink_to_fit = 1\n", ["spend.shrink_to_fit must be true or false"]),
        (DESK + "[spend]\ndefault_threshold = 100\n", ["from 1 to 99"]),
        (DESK + "[credits]\nprice_usd = 0.01\n", ["an amount in US dollars as text", "'0.01'"]),
        (DESK + '[credits]\nprice_usd = "-1"\n', ["an amount in US dollars"]),
        (DESK + '[credits]\nprice_usd = "0"\n', ["credits.price_usd must be above 0"]),
        (DESK + '[routing]\nstall_s = "5"\n', ["routing.stall_s must be a number of seconds"]),
        (DESK + "[routing]\nstall_s = nan\n", ["routing.stall_s must be a number of seconds"]),
        (DESK + "[product]\npayers = 'me'\n", ["'byok_only' or 'with_credits'"]),
        (DESK + "[product]\ndefault_plan = 'gold'\n", ["product.default_plan"]),
        (DESK + "[product]\ndirect_providers = ['mistral']\n", ["anthropic, openai, google"]),
        (DESK + "[product]\nentry_url = 'app'\n", ["product.entry_url"]),
        (DESK + "[tasks.a]\n", ["[tasks.a] needs models"]),
        (DESK + "[tasks.a]\nmodels = ['gpt-5']\n", ["OpenRouter slugs"]),
        (DESK + "[tasks.a]\nendpoint = 'images'\nmodels = ['a/b']\n", ["'chat' or 'embeddings'"]),
        (DESK + "[tasks.a]\nendpoint = 'embeddings'\nmodels = ['a/b', 'a/c']\n", ["must name one model"]),
        (DESK + "[tasks.a]\nmodels = ['a/b']\ndefault_of = true\n", ["'tasks.a.default_of' is unknown"]),
        (DESK + "[model_ids.mistral]\na = 'b'\n", ["'model_ids.mistral' is unknown"]),
        (DESK + "[origins]\nopenai = 'http://api.openai.com/v1'\n", ["allow_insecure = true"]),
        (DESK + "[origins]\nopenai = 'https://127.0.0.1/v1'\n", ["allow_insecure = true"]),
        (DESK + "[origins]\nallow_insecure = true\nopenai = 'http://api.openai.com/v1'\n", ["possible on loopback"]),
        (DESK + "[origins]\nopenai = 'https://u:p@api.openai.com/v1'\n", ["a user name or a password"]),
        (DESK + "[origins]\nopenai = 'api.openai.com'\n", ["a base URL such as https://api.openai.com/v1"]),
        (DESK + "[origins]\nopenai = 'https://api.openai.com:x/v1'\n", ["a base URL"]),
        (DESK + "[prices]\nsync_interval_s = 1\n", ["at least 60 seconds"]),
        (DESK + "[[prices.override]]\nprovider = 'openai'\nmodel = 'm'\n", ["prices.override[0] needs input_usd"]),
        (DESK + "[[prices.override]]\nprovider = 'openai'\nmodel = 'm'\ninput_usd = '20000'\n", ["US$10,000"]),
        (DESK + "[attribution]\ntitle = 'Ünder'\n", ["printable ASCII"]),
        (DESK + '[attribution]\ntitle = "a\\r\\nb"\n', ["printable ASCII"]),
    ],
)  # fmt: skip
def test_a_mistake_is_named_with_file_key_expected_and_got(load: Load, text: str, sentences: list[str]) -> None:
    with pytest.raises(SettingsError) as caught:
        load(text)

    assert "ownkey.toml" in str(caught.value)
    for sentence in sentences:
        assert sentence in str(caught.value)


def test_a_missing_file_says_how_to_make_one(tmp_path: Path) -> None:
    with pytest.raises(SettingsError, match="ownkey init"):
        load_settings(tmp_path / "none.toml", {})


def test_a_new_task_needs_models(tmp_path: Path) -> None:
    """A preset's task brings its own; without models a section is a new task, or one of the preset's misspelt."""
    config = tmp_path / "ownkey.toml"
    for section, words in (
        ("draft_replyy", "Did you mean [tasks.draft_reply]?"),
        ("summarize", 'such as models = ["openai/gpt-4.1-mini"].'),
    ):
        config.write_text(f'{DESK}[tasks.{section}]\ntitle = "x"\n')
        with pytest.raises(SettingsError) as caught:
            load_settings(config, {})

        assert f"the new task [tasks.{section}] needs models" in str(caught.value)
        assert str(caught.value).endswith(words)
