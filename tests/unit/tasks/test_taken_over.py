"""What the run page says of how a model took over."""

from tasks.core.serving.state.record import ShadowAnswer, Switched
from tasks.deploy import taken_over


def test_of_what_people_asked_no_word_is_shown_only_how_the_answers_compare() -> None:
    shadow = (
        ShadowAnswer(asked="Saya Siti", earlier="Rp 5.000", new="Rp 6.000"),
        ShadowAnswer(asked="Saya Siti", earlier="Rp 5.000 sehari.", new=" Rp 5.000"),
        ShadowAnswer(asked="Saya Siti", earlier="Rp 5.000", new=" "),
    )
    text = taken_over(Switched(how="side-by-side", shadow=shadow))
    assert "The last requests (3), answered by both: 1 new answers begin as" in text
    assert "1 are empty" in text
    assert "Siti" not in text
    assert "Rp" not in text


def test_both_answers_to_a_prompt_stand_beside_each_other() -> None:
    shadow = (ShadowAnswer(asked="harga\nroti?", earlier="Rp 5.000", new="Rp 6.000"),)
    text = taken_over(Switched(how="side-by-side", asked="prompts", shadow=shadow))
    assert "served until this one was proven" in text
    assert "> harga roti?\n\n- earlier: Rp 5.000\n- new: Rp 6.000" in text


def test_a_first_model_shows_its_answers_to_the_evaluations_prompts_alone() -> None:
    shadow = (ShadowAnswer(asked="Apa itu NIB?", earlier=None, new="Nomor."),)
    text = taken_over(Switched(how="first", asked="prompts", shadow=shadow))
    assert "Nothing was served before" in text
    assert "No client had sent a request; 1 prompts of the evaluation" in text
    assert "> Apa itu NIB?\n\n- new: Nomor." in text


def test_what_was_not_asked_again_is_told_beside_what_was() -> None:
    shadow = (ShadowAnswer(asked="Apa itu NIB?", earlier="Nomor.", new="Nomor."),)
    why = "2 of the last 2 requests are not repeated: `min_p`."
    done = Switched(how="side-by-side", asked="prompts", not_asked=why, shadow=shadow)
    assert f"{why}\n\n1 prompts of the evaluation:" in taken_over(done)


def test_a_gap_and_answers_that_were_ended_are_told() -> None:
    text = taken_over(Switched(how="replace", gap_s=41.6, cut_off=2))
    assert "retry later for 42 s" in text
    assert "2 of the earlier" in text
