"""The texts of the page, in Indonesian, in one place so that they have one voice."""

from typing import Literal

from tasks.core.serving.client.failures import FailureCause, RequestFailure

TAGLINE = "Teman bertanya untuk usaha kecil Anda: modal, harga, izin, pajak, sampai pelanggan."
CAUTION = (
    "Jawaban dibuat oleh model bahasa dan bisa keliru. Periksa kembali angka, aturan, dan tarif "
    "sebelum dipakai."
)

# --- the chat ------------------------------------------------------------------------------

CHAT_TAB = "Obrolan"
WELCOME = (
    "**Halo! Ada yang bisa dibantu untuk usaha Anda?**\n\nTulis pertanyaan, atau pilih contoh."
)
QUESTION = "Pertanyaan Anda"
QUESTION_HINT = "Tulis pertanyaan Anda di sini…"
SEND = "Kirim"
STOP = "Hentikan"
NEW_CHAT = "Mulai obrolan baru"
MORE_EXAMPLES = "Contoh pertanyaan lainnya"
SETTINGS = "Pengaturan jawaban"
TEMPERATURE = "Temperatur"
TEMPERATURE_HINT = "Makin rendah, jawaban makin lugas; makin tinggi, makin beragam."
LENGTH = "Panjang jawaban"
LENGTH_HINT = "Paling banyak sekian token; satu token kira-kira tiga perempat kata."
STOPPED = "Jawaban dihentikan."
CUT = "Jawaban terpotong karena sudah mencapai panjang yang diizinkan."


def left_out(messages: int) -> str:
    """Say that the oldest messages are no longer read by the model."""
    return (
        f"Percakapan ini sudah panjang. {messages} pesan paling awal tidak lagi dibaca oleh model; "
        "yang terbaru tetap dipakai."
    )


# --- the judgement -------------------------------------------------------------------------

CONSENT = (
    "Penilaian dan perbaikan disimpan bersama obrolan yang Anda izinkan. Jangan sertakan data "
    "pribadi."
)
JUDGE = "Bagaimana jawaban terakhir?"
GOOD = "Membantu"
BAD = "Kurang tepat"
CORRECTION = "Jawaban yang lebih baik (tidak wajib)"
CORRECTION_HINT = "Tulis jawaban yang menurut Anda benar."
SEND_CORRECTION = "Kirim perbaikan"
THANKS = "Terima kasih! Penilaian Anda sudah disimpan."
THANKS_CORRECTION = "Terima kasih! Perbaikan Anda sudah disimpan."
NO_CORRECTION = "Perbaikan masih kosong. Tulis dulu jawaban yang lebih baik."
NOT_KEPT = "Maaf, penilaian Anda belum bisa disimpan. Silakan coba lagi nanti."

# --- what is kept of a person --------------------------------------------------------------

AGREE = "Izinkan obrolan saya disimpan untuk memperbaiki Kawan Usaha"
DELETE_MINE = "Hapus semua obrolan saya"
NOT_DELETED = "Maaf, obrolan Anda belum bisa dihapus. Silakan coba lagi nanti."


def agree_hint(days: int) -> str:
    """Say what is kept, what for, and for how long."""
    return (
        "Tidak wajib. Nomor telepon, alamat surel, nomor kartu, NIK, NPWP, dan nama yang Anda "
        f"perkenalkan diganti sebelum disimpan. Obrolan disimpan paling lama {days} hari; yang "
        "diterima setelah diperiksa tim kami dapat dipakai untuk melatih model. Anda bisa "
        "menghapusnya kapan saja."
    )


def your_id(person: str) -> str:
    """Show the number that stands for a person, in groups that can be read out."""
    groups = " ".join(person[at : at + 5] for at in range(0, len(person), 5))
    return f"Nomor Anda: `{groups}`. Sebutkan kepada pengelola bila perlu." if person else ""


def deleted(answers: int) -> str:
    """Say that everything of a person has been deleted."""
    return f"Semua obrolan Anda sudah dihapus ({answers} jawaban). Izin Anda juga dicabut."


# --- the article ---------------------------------------------------------------------------

ARTICLE_TAB = "Artikel"
ARTICLE_INTRO = (
    "Ubah percakapan menjadi artikel dalam tiga langkah. Hasil tiap langkah boleh Anda sunting "
    "sebelum melanjutkan."
)
CONVERSATION = "1 · Percakapan"
CONVERSATION_HINT = "Tempel percakapan di sini, atau ambil dari tab Obrolan."
FROM_CHAT = "Ambil dari Obrolan"
EXAMPLE_CONVERSATION = "Pakai contoh"
MAKING_SUMMARY = "Sedang membuat ringkasan…"
MAKING_TITLES = "Sedang membuat judul…"
MAKING_ARTICLE = "Sedang menulis artikel…"
MAKE_SUMMARY = "Buat ringkasan"
SUMMARY = "2 · Ringkasan"
SUMMARY_HINT = "Ringkasan percakapan muncul di sini."
MAKE_TITLES = "Buat tiga judul"
TITLES_ANSWER = "Jawaban model"
TITLES = "Pilih salah satu"
TITLE = "3 · Judul"
TITLE_HINT = "Judul yang dipilih muncul di sini dan boleh diubah."
MAKE_ARTICLE = "Tulis artikel"
ARTICLE = "4 · Artikel"
ARTICLE_HINT = "Artikel muncul di sini."

NO_CHAT = "Belum ada percakapan di tab Obrolan."
NO_CONVERSATION = "Percakapan masih kosong. Tempel dulu, atau ambil dari tab Obrolan."
NO_SUMMARY = "Ringkasan masih kosong. Buat atau tulis dulu ringkasannya."
NO_TITLE = "Judul masih kosong. Pilih atau tulis dulu judulnya."
NO_TITLES = (
    "Model belum memberi judul dalam bentuk yang diminta, juga setelah diminta sekali lagi. Coba "
    "buat judul lagi, atau tulis sendiri judulnya di bawah."
)
FEWER_TITLES = "Model hanya memberi {found} judul. Anda boleh mengubahnya atau mencoba lagi."

# --- the review by the team ----------------------------------------------------------------

REVIEW_TAB = "Tinjauan"
REVIEW_INTRO = (
    "Khusus tim: baca percakapan yang boleh disimpan, lalu putuskan mana yang dipelajari model. "
    "Yang nilainya paling buruk tampil lebih dulu, lalu yang terbaru."
)
REVIEW_KEY = "Kunci peninjau"
REVIEW_KEY_HINT = "Kunci yang diberikan pengelola layanan"
REVIEW_OPEN = "Buka"
SYSTEM_MESSAGE = "*Pesan sistem dari aplikasi*"
THEIR_CORRECTION = "Perbaikan dari pengguna"
TAKE_CORRECTION = "Pakai perbaikan ini"
LEARNED_ANSWER = "Jawaban yang dipelajari"
LEARNED_ANSWER_HINT = "Boleh disunting. Tanpa perubahan, jawaban semula yang dipelajari."
ACCEPT = "Terima"
REJECT = "Tolak"
SKIP = "Lewati"
WHAT_IS_LEARNED = (
    "Jika diterima, seluruh percakapan di atas dipelajari, termasuk jawaban-jawaban sebelumnya. "
    "Tolak bila keliru atau masih ada data pribadi: yang ditolak tidak dipakai sama sekali."
)
RATED = {
    "up": "Penilaian pengguna: **membantu**",
    "down": "Penilaian pengguna: **kurang tepat**",
    None: "Penilaian pengguna: belum ada",
}
CUT = "**Jawaban ini terpotong** karena batas panjangnya tercapai."
ACCEPTED = "Diterima."
REJECTED = "Ditolak."
FROM_THE_HEAD = "Itu yang terakhir; kembali ke awal."
NONE_WAIT = "Tidak ada lagi jawaban yang menunggu tinjauan."
NOTHING_TO_LEARN = "Jawaban yang dipelajari masih kosong. Tulis jawabannya, atau tolak."
OPEN_AGAIN = "Halaman ini sudah lama terbuka. Tekan Buka sekali lagi."
NO_KEY_TYPED = "Kunci masih kosong. Masukkan kunci peninjau Anda."
KEY_UNKNOWN = "Kunci ini tidak dikenal."
NO_REVIEWER = "Kunci ini tidak boleh dipakai untuk meninjau."
NOT_COLLECTING = "Layanan ini tidak menyimpan percakapan."
GONE = "Jawaban ini sudah tidak disimpan lagi. Tekan Buka untuk melanjutkan."
DECIDED_MEANWHILE = (
    "Peninjau lain baru saja memutuskan jawaban ini. Tekan Buka untuk melanjutkan ke berikutnya."
)
NO_REVIEW_NOW = "Maaf, tinjauan sedang tidak dapat dibuka. Silakan coba lagi sebentar lagi."


def rated(verdict: Literal["up", "down"] | None, *, cut: bool) -> str:
    """Say what the person thought of an answer, and whether the answer has an end."""
    return f"{RATED[verdict]}  \n{CUT}" if cut else RATED[verdict]


def waiting(answers: int) -> str:
    """Say how many answers wait."""
    return f"**{answers}** jawaban menunggu tinjauan"


# --- what went wrong -----------------------------------------------------------------------

EMPTY_QUESTION = "Pertanyaan masih kosong."
TOO_LONG = "Teks ini terlalu panjang untuk dibaca model sekaligus. Coba pendekkan atau bagi dua."

_BY_CAUSE = {
    FailureCause.TOO_LONG: TOO_LONG,
    FailureCause.BUSY: "Kawan Usaha sedang sibuk. Silakan coba lagi {when}.",
    FailureCause.NO_MODEL: "Model yang diminta sedang tidak tersedia. Hubungi pengelola layanan "
    "ini.",
    FailureCause.NO_KEY: "Halaman ini belum diizinkan memakai model. Hubungi pengelola layanan "
    "ini.",
    FailureCause.FAILED: "Maaf, model tidak dapat menjawab. Silakan coba lagi {when}.",
    FailureCause.BROKEN: "Maaf, jawaban terputus di tengah jalan. Silakan kirim sekali lagi.",
    FailureCause.UNREACHABLE: "Kawan Usaha sedang tidak dapat dihubungi. Silakan coba lagi {when}.",
}


def sorry(failure: RequestFailure) -> str:
    """Say why there is no answer, and when to come back."""
    after = failure.retry_after_s
    when = "sebentar lagi" if not after else f"dalam {after} detik"
    return _BY_CAUSE[failure.cause].format(when=when)
