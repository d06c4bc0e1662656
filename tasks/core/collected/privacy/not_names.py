"""Words that follow "saya" or "I'm" in the questions of small businesses but are not names."""

_TITLES = """
bapak ibu pak bu mas mbak mba kak kakak bang abang bung tuan nyonya nona om tante h hj dr drs
dra ir prof mr mrs ms miss sir haji hajah ustaz ustadz ustadzah
"""
_DOING = """
mau ingin pengen pingin ingn akan bisa dapat harus perlu butuh sedang lagi sudah udah telah
belum tidak tak gak ga nggak enggak bukan jangan punya memiliki mempunyai ada adalah ialah yaitu
jual jualan menjual berjualan dagang berdagang usaha berusaha buka membuka beli membeli kerja
bekerja tinggal asal berasal dari umur berumur usia berusia lahir tanya bertanya nanya minta
meminta mohon coba mencoba cari mencari pakai memakai pake gunakan menggunakan buat membuat
bikin mulai memulai jalankan menjalankan kelola mengelola rintis merintis sewa menyewa rasa
merasa pikir berpikir tahu tau lihat melihat dengar baca membaca tulis kirim mengirim terima
menerima bayar membayar pinjam meminjam hubungi bantu dibantu suka senang sedih bingung takut
yakin setuju kesulitan kebingungan tertarik berencana berniat hendak
"""
_FEELING = """
rugi untung bangkrut lapar sakit capek capai lelah stres stress pusing ragu malas malu marah kaget
heran gagal sukses lulus hamil sehat siap sanggup mampu kurang lebih sangat sungguh benar betul
sering selalu jarang pernah baru lama lupa ingat kenal paham ngerti mengerti percaya harap berharap
tetap terus langsung sempat kadang terkadang biasa biasanya hidup pulang pergi datang masuk keluar
ikut pindah ganti kembali habis kena dapet ambil bawa kasih titip tawarkan setor lapor daftar urus
jahit masak goreng jualin ngga kagak rencana niat wajib boleh daripada nih sih dong deh kok
"""
_BEING = """
seorang pemilik penjual pedagang pengusaha pengelola pelaku petani nelayan guru mahasiswa
mahasiswi pelajar karyawan karyawati pegawai ibu bapak orang warga anak istri suami janda muslim
muslimah islam kristen katolik hindu buddha indonesia jawa sunda batak
"""
_JOINING = """
yang dan atau tapi tetapi namun serta juga hanya cuma masih saja aja pun lah kah itu ini sini
situ di ke pada untuk dengan dgn dlm dalam oleh karena karna krn sebab supaya agar kalau kalo
jika bila saat ketika waktu sejak selama seperti sebagai tentang soal bagaimana gimana apa
apakah siapa kapan mana kenapa mengapa berapa sendiri sekarang nanti kemarin besok hari saya aku
kami kita kamu anda dia mereka gue gua gw sy nya tolong kasih halo hai hi selamat pagi siang
sore malam ya iya oke ok yg sdh blm tdk jg utk sm sama nama toko warung kedai rumah umkm bisnis
produk kue kopi makanan minuman pelanggan modal rp idr usd
"""
_ENGLISH = """
a an the am is are was be from in on at of to for with and or but not no so very just only also
still now here there new looking trying going thinking planning running starting selling making
working wondering interested happy sad sorry sure afraid glad ready able unable having owner
seller student teacher farmer indonesian javanese christian me my i it its you we they this that
what how when where why who business shop store called named
"""

FORMS_OF_ADDRESS = frozenset(_TITLES.split())
NOT_NAMES = frozenset((_DOING + _FEELING + _BEING + _JOINING + _ENGLISH).split())
